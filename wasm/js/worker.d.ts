// The entry of the worker exports nothing; it waits for a page to connect.
export {};
