"""What pyrunc knows of criu(8): how it is started and spoken to, and what of a container it has to be told."""
