@echo off
rem Darkroom's launcher for Windows: makes the Python environment on first use, then runs Darkroom in it.
rem
rem   darkroom.bat ...         run Darkroom (see darkroom.bat --help)
rem   darkroom.bat test        every check and every test; with arguments: pytest alone, with them
rem
rem   set PYTHON=C:\...\python.exe    the interpreter to make the environment with: 3.11, 3.12 or 3.13
rem   set DARKROOM_VENV=D:\folder     where the environment lies (default: .venv beside this file)
rem
rem It does what ./darkroom does, in fewer words: an environment is used only if it carries the
rem lock file that lies here as its stamp, which is written last.
setlocal EnableExtensions DisableDelayedExpansion
set "ROOT=%~dp0"
set "VENV=%ROOT%.venv"
if defined DARKROOM_VENV set "VENV=%DARKROOM_VENV%"
set "PY=%VENV%\Scripts\python.exe"
set "STAMP=%VENV%\.darkroom"
set "LOCKS=-r "%ROOT%requirements.lock""
set "MODE=run"
if /i "%~1"=="test" set "MODE=test"
if "%MODE%"=="test" set "LOCKS=%LOCKS% -r "%ROOT%requirements-test.lock""

rem -- Is there anything to do?
if not exist "%PY%" goto setup
fc /b "%ROOT%requirements.lock" "%STAMP%\run.lock" >nul 2>nul || goto setup
if "%MODE%"=="run" goto start
fc /b "%ROOT%requirements-test.lock" "%STAMP%\test.lock" >nul 2>nul || goto setup
goto start

:setup
rem -- A set-up that was interrupted is started over.
if exist "%STAMP%\unfinished" rmdir /s /q "%VENV%"
if exist "%PY%" goto install

rem -- Find a Python that PyTorch supports; `py` first. (Two first starts at once are not held apart here.)
set "BASE="
if defined PYTHON call :try "%PYTHON%"
if not defined PYTHON for %%V in (3.11 3.12 3.13) do call :try py -%%V
if not defined PYTHON call :try python
if not defined BASE (
  echo darkroom: 64-bit Python 3.11, 3.12 or 3.13 is needed, and was not found. 1>&2
  echo   Install Python 3.11, or name one: set PYTHON=C:\path\to\python.exe 1>&2
  exit /b 1
)
echo Setting up Darkroom in "%VENV%" ^(once, about 2 minutes and 2 GB; more with NVIDIA support^) ... 1>&2
mkdir "%STAMP%" 2>nul
type nul >"%STAMP%\unfinished" || goto unwritable
%BASE% -I -m venv "%VENV%" || goto failed

:install
echo Installing Darkroom's packages; this can take some minutes ... 1>&2
if not exist "%STAMP%" mkdir "%STAMP%"
del /q "%STAMP%\run.lock" "%STAMP%\test.lock" 2>nul
"%PY%" -I -m pip --disable-pip-version-check --no-input install --progress-bar off %LOCKS% >"%STAMP%\setup.log" 2>&1 || goto failed
"%PY%" -I -c "import torch" >>"%STAMP%\setup.log" 2>&1 || goto failed
if "%MODE%"=="test" copy /y "%ROOT%requirements-test.lock" "%STAMP%\test.lock" >nul
del /q "%STAMP%\unfinished" 2>nul
copy /y "%ROOT%requirements.lock" "%STAMP%\run.lock" >nul || goto unwritable
echo Darkroom is ready. 1>&2

:start
set "PYTHONHOME="
set "PYTHONPATH=%ROOT%src"
if "%MODE%"=="run" (
  "%PY%" -P -m darkroom %*
  exit /b
)
rem -- %* still holds the word "test"; tools.check knows to drop it.
set "PYTHONPATH=%ROOT%;%ROOT%src"
cd /d "%ROOT%"
"%PY%" -P -m tools.check %*
exit /b

:try
%* -c "import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32))" >nul 2>nul
if not errorlevel 1 if not defined BASE set "BASE=%*"
exit /b 0

:unwritable
echo darkroom: "%VENV%" cannot be written. Set DARKROOM_VENV to a folder that can be. 1>&2
exit /b 1

:failed
echo darkroom: the set-up failed. What went wrong stands at the end of 1>&2
echo   "%STAMP%\setup.log" 1>&2
echo   Most often there is no network or no room on the disk ^(2 GB are needed^). Mend that, and start again. 1>&2
exit /b 1
