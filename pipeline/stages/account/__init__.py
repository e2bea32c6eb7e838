"""Account: from decisions and outcomes into the notification log, which ledger and why read."""
