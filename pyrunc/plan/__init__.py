"""Stage 3: what will be done, as a program of system calls; touches nothing."""
