"""What may be fed to the SignalR core, and what must hold whatever it is; for Hypothesis and for a fuzzer."""
