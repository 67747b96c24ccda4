"""Where a bundle is measured: here, over ssh, over adb, or on a device that only takes files."""
