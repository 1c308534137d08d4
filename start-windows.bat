@echo off
rem Double-click: installs X2I Studio on the first start, runs it, and opens the page. Needs Python 3.11 to 3.13; see start.py.
chcp 65001 >nul
pushd "%~dp0"
for %%v in (3.13 3.12 3.11) do (
    py -%%v -c "" >nul 2>nul && (
        py -%%v start.py %*
        goto end
    )
)
python -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" >nul 2>nul && (
    python start.py %*
    goto end
)
echo x2i: No Python 3.11, 3.12 or 3.13 was found; install one from https://www.python.org/downloads/
cmd /c exit 1
:end
if not "%errorlevel%"=="0" pause
