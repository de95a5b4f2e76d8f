"""What a task minimises and what its validation reports."""
