"""persicache for joblib: its `Memory` over any place."""
