"""Champion and challenger: may the release of this run replace an earlier one? Rules with limits decide."""
