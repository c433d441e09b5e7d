"""The app's pages, one Streamlit script each. They draw and call; what they show is worked out below them."""
