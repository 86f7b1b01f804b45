"""The only room that changes anything at the broker: it brings an account to a decided end state, and proves it."""
