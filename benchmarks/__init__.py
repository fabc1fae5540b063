"""Speed, as ratios against a plain implementation of the same contract in the same run."""
