// How good what the search finds is: the values of Sphinx, and what tells of the past comes last.
var Scorer = {
  score: ([page, , , , score]) =>
    page.startsWith("docs/decisions/") || page === "CHANGELOG" ? score / 4 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
