// What is seen where the page's scripts do not come: the service has gone, or another version of it
// is there meanwhile. No module, and it imports none: one that fails takes all others with it.

const WAIT = 2000; // Milliseconds between two attempts.

async function again() {
  const answer = await fetch("", { cache: "no-store" }).catch(() => null);
  if (answer?.ok) location.reload();
  else setTimeout(again, WAIT);
}

window.addEventListener("error", ({ target }) => {
  if (target.tagName !== "SCRIPT") return;
  document.querySelector("#page p").textContent =
    "The scripts of this page could not be loaded. It tries again every two seconds.";
  setTimeout(again, WAIT);
}, true);
