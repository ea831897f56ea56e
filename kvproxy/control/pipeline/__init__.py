"""From the snapshots of providers to the next generation: throttle, guard, quarantine."""
