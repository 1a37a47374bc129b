"""What `prefsim train` reads, decides and says."""
