// From disk a browser refuses to fetch the pages that the results are excerpts of: their words are in a
// script, see book/_ext/search_texts.py.
if (location.protocol === "file:" && DOCUMENTATION_OPTIONS.pagename === "search") {
  document.write('<script src="_static/search-texts.js"><\/script>');
  const words = (address) => SEARCH_TEXTS[decodeURI(address).split("#")[0].replace(/^\.\//, "")] ?? "";
  const page = (address) => `<div role="main">${words(address)}</div>`;
  globalThis.fetch = async (address) => ({ text: () => page(address) });
}

// Every word of a query must be on a page, so that a whole question finds those that happen to have its
// small words. They are passed over, as Sphinx passes over "the". And of the pages that have the rest,
// those come first that have most of it in their title or in one of a section.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const SMALL = "can do does how i me my should we what when where which who why would you";
  stopwords.push(...SMALL.split(" "));
  const stemmer = new Stemmer();
  const stems = (text) => splitQuery(text.toLowerCase()).map((word) => stemmer.stemWord(word));
  const query = splitQuery((new URLSearchParams(location.search).get("q") ?? "").toLowerCase());
  const wanted = new Set(stems(query.filter((word) => !stopwords.includes(word)).join(" ")));
  const shared = (title) => new Set(stems(title).filter((word) => wanted.has(word))).size;
  let sections = null;
  Scorer.score = ([name, title, , , score]) => {
    sections ??= Object.entries(Search._index.alltitles).map(([text, places]) => [
      shared(text), places.map(([file]) => Search._index.docnames[file]),
    ]);
    const most = Math.max(0, ...sections.filter(([, names]) => names.includes(name)).map(([count]) => count));
    return score + 10 * (most + shared(title));
  };
});
