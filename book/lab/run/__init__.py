"""Long runs: workers, records, and whether a record is current."""
