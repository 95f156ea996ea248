"""Reports and charts: figures turned into pictures, terminal drawings, HTML and text, and their delivery."""
