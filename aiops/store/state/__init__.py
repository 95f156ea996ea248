"""The state store: incidents, outbox, actions, audit, keys, conversations, jobs. One repository a subject."""
