"""What a network costs: parameters live and dead, multiply-adds, time, memory; in total, by part, by scale."""
