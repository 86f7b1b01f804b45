"""The SignalR JSON hub protocol, without I/O: text in, messages out; messages in, text out. Both roles."""
