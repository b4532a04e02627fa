"""The same Transformer on Hugging Face: MarianMT and Seq2SeqTrainer."""
