"""Recording: corpus, sampling design, the streaming recorder, records made elsewhere."""
