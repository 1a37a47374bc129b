"""Robust, contrastive and reward models."""
