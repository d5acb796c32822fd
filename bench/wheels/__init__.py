"""Wheels for other systems and CPUs: made with zig, and tried or looked at; `bench/wheels.sh` starts it."""
