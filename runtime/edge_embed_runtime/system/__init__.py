"""What the operating system gives: cpu, memory, cgroups, whole files, lock, background thread, tuning."""
