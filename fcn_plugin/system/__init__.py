"""What any program needs: files, downloads, locks, workers, memory, configs."""
