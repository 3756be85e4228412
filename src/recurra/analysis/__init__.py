"""Looking into networks: how gradients flow through recurrent layers, and what their states and gates do."""
