// From disk a browser refuses to fetch the pages that the results are excerpts of.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
