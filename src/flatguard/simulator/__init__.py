"""The gateway double: a ProjectX gateway on real sockets or on streams in memory, for tests, demos and anyone's bot."""
