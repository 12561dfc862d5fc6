"""Measuring on a device, and finding out what the device is."""
