"""Problems that can be enumerated: random losses of the suite, and the note's toy."""
