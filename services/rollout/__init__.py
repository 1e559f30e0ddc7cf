"""The rollout process: leads a new version from shadow over canary shares to champion, or back."""
