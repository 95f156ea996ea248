"""Conversation with the assistant, shared by every chat surface: messages in, replies with charts and buttons out."""
