# docker build -t x2i . && docker run --rm -p 7860:7860 x2i
FROM python:3.12-slim

RUN useradd --create-home x2i
WORKDIR /home/x2i/app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY --chown=x2i . .
USER x2i

ENV X2I_HOST=0.0.0.0 X2I_PORT=7860
EXPOSE 7860
CMD ["python", "app.py"]
