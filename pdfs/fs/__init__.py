"""What the stage looks like to a process: requests, open files, look-ups. No pyfuse3, no bucket."""
