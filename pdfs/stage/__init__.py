"""What happens to the stage as a whole: lock, load, fetch, publish, apply, settle."""
