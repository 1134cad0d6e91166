"""Tests with real system calls in processes and namespaces of their own."""
