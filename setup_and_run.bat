@echo off
rem Sets up what the program needs (once), then runs it.
rem
rem   setup_and_run.bat                     the recommended first run
rem   setup_and_run.bat --version both ...  main.py with these options
rem   setup_and_run.bat tests               the tests

setlocal EnableExtensions DisableDelayedExpansion
chcp 65001 >nul
cd /d "%~dp0"
if not exist requirements.txt exit /b 1

set "ENV_DIR=transformer_env"
set "ENV_PYTHON=%ENV_DIR%\Scripts\python.exe"
set "INSTALL_LOG=%ENV_DIR%\install.log"
set "NEW_ENOUGH=import sys; sys.exit(sys.version_info < (3, 10))"

set "REQUIREMENTS=requirements.txt"
if "%~1"=="tests" set "REQUIREMENTS=requirements-dev.txt"

rem --- the environment ---

if not exist "%ENV_DIR%" goto find_python
"%ENV_PYTHON%" -c "%NEW_ENOUGH%" >nul 2>nul
if not "%ERRORLEVEL%"=="0" goto rebuild
"%ENV_PYTHON%" -m pip --version >nul 2>nul
if not "%ERRORLEVEL%"=="0" goto rebuild
goto check_packages

:rebuild
>&2 echo The virtual environment %ENV_DIR% is incomplete or too old: it is made again.
>&2 echo 가상환경(%ENV_DIR%)이 완전하지 않거나 너무 오래되어 다시 만듭니다.
rmdir /s /q "%ENV_DIR%"
if exist "%ENV_DIR%" goto environment_failed

:find_python
set "PYTHON="
set "SAY_IF_NEW_ENOUGH=import sys; sys.version_info < (3, 10) or print(1)"
for /f %%V in ('python -c "%SAY_IF_NEW_ENOUGH%" 2^>nul') do set "PYTHON=python"
for /f %%V in ('py -3 -c "%SAY_IF_NEW_ENOUGH%" 2^>nul') do set "PYTHON=py -3"
if defined PYTHON goto create_environment
>&2 echo Python 3.10 or newer was not found. Install it from https://www.python.org/downloads/ and run this again in a new window.
>&2 echo Python 3.10 이상을 찾을 수 없습니다. https://www.python.org/downloads/ 에서 설치한 뒤 새 창에서 다시 실행하세요.
exit /b 1

:create_environment
>&2 echo Making the virtual environment %ENV_DIR% ...
>&2 echo 가상환경(%ENV_DIR%)을 만듭니다 ...
rem call: the python of some version managers is a batch file, which would never come back here
call %PYTHON% -m venv "%ENV_DIR%"
"%ENV_PYTHON%" -m pip --version >nul 2>nul
if not "%ERRORLEVEL%"=="0" goto environment_failed

rem --- the packages: a copy of each requirements file is kept once it has been installed ---

:check_packages
fc /b requirements.txt "%ENV_DIR%\installed-requirements.txt" >nul 2>nul
if not "%ERRORLEVEL%"=="0" goto install
fc /b "%REQUIREMENTS%" "%ENV_DIR%\installed-%REQUIREMENTS%" >nul 2>nul
if not "%ERRORLEVEL%"=="0" goto install
goto run

:install
>&2 echo Installing the packages; the first time takes several minutes and a few GB ...
>&2 echo 패키지를 설치합니다. 처음에는 몇 분이 걸리고 몇 GB의 공간이 필요합니다 ...
if exist "%ENV_DIR%\installed-requirements.txt" del /q "%ENV_DIR%\installed-requirements.txt"
if exist "%ENV_DIR%\installed-%REQUIREMENTS%" del /q "%ENV_DIR%\installed-%REQUIREMENTS%"
if exist "%INSTALL_LOG%" del /q "%INSTALL_LOG%"
"%ENV_PYTHON%" -m pip install --disable-pip-version-check --log "%INSTALL_LOG%" -r "%REQUIREMENTS%"
if not "%ERRORLEVEL%"=="0" goto install_failed
copy /y requirements.txt "%ENV_DIR%\installed-requirements.txt" >nul
copy /y "%REQUIREMENTS%" "%ENV_DIR%\installed-%REQUIREMENTS%" >nul

rem --- the program; its exit status is ours ---

:run
if "%~1"=="tests" goto run_tests
if "%~1"=="" goto first_run
"%ENV_PYTHON%" main.py %*
exit /b %ERRORLEVEL%

:first_run
"%ENV_PYTHON%" main.py --version both --epochs 2 --train_size 500 --eval_size 100 --debug
exit /b %ERRORLEVEL%

:run_tests
set "REST=%*"
set "REST=%REST:*tests=%"
"%ENV_PYTHON%" -m pytest %REST%
exit /b %ERRORLEVEL%

rem --- what can go wrong ---

:environment_failed
>&2 echo The virtual environment could not be made. Close programs that use this folder, check the free disk space and run this again.
>&2 echo 가상환경을 만들지 못했습니다. 이 폴더를 사용하는 프로그램을 닫고 디스크 공간을 확인한 뒤 다시 실행하세요.
exit /b 1

:install_failed
findstr /i /c:"No space left" /c:"Errno 28" /c:"not enough space" "%INSTALL_LOG%" >nul 2>nul
if "%ERRORLEVEL%"=="0" goto disk_full
findstr /i /c:"NewConnectionError" /c:"NameResolutionError" /c:"Failed to establish" /c:"getaddrinfo" /c:"Max retries" /c:"timed out" /c:"Network is unreachable" /c:"ProxyError" /c:"SSLError" "%INSTALL_LOG%" >nul 2>nul
if "%ERRORLEVEL%"=="0" goto no_network
findstr /i /c:"No matching distribution" "%INSTALL_LOG%" >nul 2>nul
if "%ERRORLEVEL%"=="0" goto no_package
>&2 echo The install failed; the reason stands above and in %INSTALL_LOG%. Run this again once it is solved.
>&2 echo 설치에 실패했습니다. 원인은 위의 메시지와 %INSTALL_LOG% 에 있습니다. 해결한 뒤 다시 실행하세요.
exit /b 1

:disk_full
>&2 echo The install failed: the disk is full. Free a few GB and run this again.
>&2 echo 설치에 실패했습니다: 디스크 공간이 부족합니다. 몇 GB를 비운 뒤 다시 실행하세요.
exit /b 1

:no_network
>&2 echo The install failed: no network connection to download packages. Check it and run this again.
>&2 echo 설치에 실패했습니다: 패키지를 내려받을 네트워크에 연결할 수 없습니다. 연결을 확인한 뒤 다시 실행하세요.
exit /b 1

:no_package
>&2 echo The install failed: a package has no version for this computer or this Python. Use 64-bit Python 3.10 to 3.14, delete %ENV_DIR% and run this again.
>&2 echo 설치에 실패했습니다: 이 컴퓨터나 Python 버전에 맞는 패키지가 없습니다. 64비트 Python 3.10~3.14을 쓰고 %ENV_DIR% 폴더를 지운 뒤 다시 실행하세요.
exit /b 1
