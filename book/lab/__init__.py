"""The laboratory: problems, runs, records and figures of the report (extra ``ils[lab]``)."""
