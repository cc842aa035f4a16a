import Recommendations from './recommendations.js';

// A server component; only the list below runs in the browser.
export default function Page() {
  return <Recommendations />;
}
