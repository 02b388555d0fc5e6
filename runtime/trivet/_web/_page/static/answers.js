// Documents of the service that a view asks for, and asks for again.

import { useEffect, useState } from "./preact.js";
import { ask } from "./api.js";

/**
 * The answer at a path, asked for whenever the path, the query or `key` changes, and every `every`
 * milliseconds while the page can be seen. The last answer stays until the next one has come.
 */
export function useAnswer(path, query, key = "", every = 0) {
  const [found, setFound] = useState({ answer: null, problem: null });
  const [number, setNumber] = useState(0);
  useEffect(() => {
    if (!path) return undefined;
    let isOver = false; // Something else is wanted: an answer that comes late is dropped.
    let timer = 0;
    async function look() {
      let next;
      try {
        next = { answer: await ask(path, { query }), problem: null };
      } catch (problem) {
        next = { answer: null, problem };
      }
      if (isOver) return;
      setFound(next);
      if (every) wait();
    }
    function wait() {
      timer = setTimeout(() => (document.hidden ? wait() : look()), every);
    }
    look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [JSON.stringify([path, query, key, number])]);
  return { ...found, again: () => setNumber((before) => before + 1) };
}
