/** @type {import('next').NextConfig} */
export default {
  // Plain files, for any static host.
  output: 'export',
};
