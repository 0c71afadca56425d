"""Background services of this machine: how they are guarded, started, watched and ended; their databases and passwords."""
