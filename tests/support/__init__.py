"""What the tests share: bundles to run, a runtime to run them with, and the footprint it must not leave."""
