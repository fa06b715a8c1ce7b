// From disk a browser refuses to fetch the pages that the results are excerpts of: their words are in a
// script, see book/_ext/search_texts.py.
if (location.protocol === "file:" && DOCUMENTATION_OPTIONS.pagename === "search") {
  document.write('<script src="_static/search-texts.js"><\/script>');
  const page = (address) => `<div role="main">${SEARCH_TEXTS[decodeURI(address).split("#")[0].replace(/^\.\//, "")] ?? ""}</div>`;
  globalThis.fetch = async (address) => ({ text: () => page(address) });
}

// Every word of a query must be on a page, so that a whole question finds those that happen to have its
// small words. They are passed over, as Sphinx passes over "the"; the list is Sphinx's, on the search page.
addEventListener("DOMContentLoaded", () => {
  const SMALL = "can do does how i me my should use used we what when where which who why would you";
  if (typeof stopwords !== "undefined") stopwords.push(...SMALL.split(" "));
});
