// Documents of the service that a view asks for, and asks for again.

import { useEffect, useRef, useState } from "./preact.js";
import { ask } from "./api.js";

/**
 * The answer at a path, asked for whenever the path, the query or `key` changes, and every `every`
 * milliseconds while the page can be seen. The last answer stays until the next one has come.
 */
export function useAnswer(path, query, key = "", every = 0) {
  const [found, setFound] = useState({ answer: null, problem: null });
  const [number, setNumber] = useState(0);
  const wanted = JSON.stringify([path, query, key, number]);
  const current = useRef(wanted);
  current.current = wanted;
  useEffect(() => {
    if (!path) return undefined;
    let timer = 0;
    async function look() {
      try {
        const answer = document.hidden ? null : await ask(path, { query });
        if (current.current === wanted && answer) setFound({ answer, problem: null });
      } catch (problem) {
        if (current.current === wanted) setFound({ answer: null, problem });
      }
      if (every && current.current === wanted) timer = setTimeout(look, every);
    }
    look();
    return () => {
      current.current = "";
      clearTimeout(timer);
    };
  }, [wanted]);
  return { ...found, again: () => setNumber((before) => before + 1) };
}
