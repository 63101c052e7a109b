# Stop when the validation has not gained a thousandth in ten rounds.
early_stopping = dict(type='ResumableEarlyStoppingHook', monitor='mIoU', rule='greater', min_delta=0.001, patience=10)
