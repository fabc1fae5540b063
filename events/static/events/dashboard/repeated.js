// What is asked for again and again while the page is seen.

const LOADING_MILLISECONDS = 100;

// Returns a function that asks at once, and again `wait()` milliseconds after each answer, or never where that is 0.
// Whatever goes wrong, the next one follows. Asking anew ends what is under way; a place is marked where it takes a while.
export function repeated(place, wait, ask, failed) {
  let timer, slow, asking;
  const mark = (isLoading) => {
    place.classList.toggle("loading", isLoading);
    place.setAttribute("aria-busy", isLoading);
  };
  async function now() {
    for (const each of [timer, slow]) clearTimeout(each);
    asking?.abort();
    const { signal } = (asking = new AbortController());
    slow = setTimeout(mark, LOADING_MILLISECONDS, true);
    await ask(signal).catch((error) => signal.aborted || failed(error));
    if (signal.aborted) return;
    clearTimeout(slow);
    mark(false);
    if (wait() > 0) timer = setTimeout(() => document.hidden || now(), wait());
  }
  document.addEventListener("visibilitychange", () => document.hidden || (wait() > 0 && now()));
  return now;
}
