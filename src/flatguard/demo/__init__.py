"""The whole system on this machine: gateway double, a trader who breaks rules, the real daemon, a view of it."""
