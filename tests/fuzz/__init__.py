"""`make fuzz`: inputs that a coverage-guided fuzzer makes, for some minutes, and mutated photos, which must get one verdict everywhere."""
