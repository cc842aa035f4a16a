// Compiled, never run: what most pages write.

import { Recommender, TributaryError } from 'tributary';

export async function recommend(history: string[]): Promise<(string | number)[]> {
  try {
    const recommender = await Recommender.fromPretrained('./model/', { progressCallback: ({ status }) => status });
    const { items } = await recommender.recommend({ history, k: 5 });
    await recommender.dispose();
    return items.map(({ id }) => id);
  } catch (error) {
    if (error instanceof TributaryError && error.retriable) return [];
    throw error;
  }
}
