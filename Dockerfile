# SLIM on the CPU: docker build -t slim . && docker run --rm slim demo
FROM python:3.11-slim

WORKDIR /slim
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt '.[demo]' \
    && mkdir --mode=1777 /work

# Any user may run it, such as the owner of a mounted folder: docker run --user "$(id -u)" -v "$PWD:/work" ...
ENV HOME=/tmp
USER 1000
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["slim"]
CMD ["demo"]
