FROM python:3.11-slim
COPY app.py /app.py
RUN pip install flask
CMD ["python", "app.py"]
